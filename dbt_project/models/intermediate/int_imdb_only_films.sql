with matched as (

    select * from {{ ref('int_movies_matched') }}

),

ratings as (

    select * from {{ ref('stg_imdb__ratings') }}

),

titles as (

    select * from {{ ref('stg_imdb__titles') }}

),

episodes as (

    select * from {{ ref('stg_imdb__episodes') }}

),

voted as (

    select tconst
    from ratings
    where num_votes >= {{ catalogue_min_votes() }}

),

held as (

    select tconst
    from matched
    where tconst is not null

),

episode_ids as (

    select tconst
    from episodes
    where tconst in (select voted.tconst from voted)

),

-- An unknown type or mark is not held against a title: only what is known to be something else is left out.
final as (

    select tconst
    from titles
    where
        tconst in (select voted.tconst from voted)
        and tconst not in (select held.tconst from held)
        and tconst not in (select episode_ids.tconst from episode_ids)
        and (title_type is null or title_type in ('movie', 'tvMovie', 'video'))
        and is_adult is not true
        and not list_contains(genres, 'Adult')

)

select * from final
