{{ config(meta={'dagster': {'ref': {'name': 'fct_ratings'}}}) }}
-- Merging ids of one film and repeated ratings loses no row of the file, and none of the app that has
-- its film and person here: each is counted in times_rated.
with raw_ratings as (

    select count(*) as row_count from {{ source('raw', 'ml_ratings') }}

),

of_the_app as (

    select count(*) as row_count from {{ ref('int_ratings_keyed') }}
    where edition = 'app'

),

counted as (

    select coalesce(sum(times_rated), 0) as row_count from {{ ref('fct_ratings') }}

),

final as (

    select
        raw_ratings.row_count + of_the_app.row_count as in_file,
        counted.row_count as in_fct_ratings
    from raw_ratings
    cross join of_the_app
    cross join counted
    where raw_ratings.row_count + of_the_app.row_count != counted.row_count

)

select * from final
