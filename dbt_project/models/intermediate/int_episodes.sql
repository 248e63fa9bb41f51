with films as (

    select * from {{ ref('int_films') }}

),

episodes as (

    select * from {{ ref('stg_imdb__episodes') }}

),

tconsts as (

    select tconst
    from films
    where tconst is not null

),

final as (

    select
        tconst,
        parent_tconst,
        season_number,
        episode_number
    from episodes
    where
        parent_tconst in (select tconsts.tconst from tconsts)
        or tconst in (select tconsts.tconst from tconsts)

)

select * from final
