with movies as (

    select * from {{ ref('dim_movies') }}

),

loads as (

    select * from {{ source('raw', 'loads') }}

),

snapshot as (

    select max(snapshot_at) as feature_timestamp
    from loads
    where table_name = 'imdb_title_ratings'

),

final as (

    select
        movies.movie_key,
        snapshot.feature_timestamp,
        cast(movies.imdb_rating as double) as imdb_rating,
        movies.imdb_votes
    from movies
    cross join snapshot
    where movies.imdb_rating is not null and snapshot.feature_timestamp is not null

)

select * from final
